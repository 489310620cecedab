# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help serve demo models check test lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# Built beside and renamed would break the venv's own paths, so a half-made one is made again:
# the marker is written last.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

serve: $(READY)  ## serve the shipped models; prints the page's address and a curl line
	$(BIN)/python -m service

demo: $(READY)  ## the whole way on phantoms, with and without skips, in minutes
	$(BIN)/python -m training demo

# DATA: folder of nuclei_dsb2018 (BBBC038), images/ and masks/. Writes the next version of each.
TO ?= models
RUNS ?= runs
models: $(READY)  ## train and export the shipped models again: make models DATA=<folder>
	@test -d "$(DATA)/images" || { echo "make models DATA=<folder with images/ and masks/>"; exit 2; }
	$(BIN)/python -m training fit --config training/configs/nuclei.yaml \
	  --data.root "$(DATA)" --out $(RUNS)/nuclei
	$(BIN)/python -m training fit --config training/configs/nuclei.yaml \
	  --data.root "$(DATA)" --out $(RUNS)/nuclei-noskip --net.long_skips none
	$(BIN)/python -m training export $(RUNS)/nuclei --name nuclei --to $(TO) \
	  --precision fp32,fp16,int8 --gated \
	  --description "Nuclei in fluorescence and H&E-like micrographs; U-Net with long skips."
	$(BIN)/python -m training export $(RUNS)/nuclei-noskip --name nuclei-noskip --to $(TO) \
	  --precision fp32,fp16,int8 \
	  --description "The twin of nuclei without long skips: same widths, steps and schedule."

check: $(READY)  ## lint, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY)  ## the whole suite, fast tests first
	$(BIN)/python -m pytest

# For the service images, without torch; the constraint keeps all locks at the same versions.
LOCK_SERVICE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
  --extra service --constraint requirements.lock pyproject.toml

lock:  ## pin the dependencies again
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --extra dev pyproject.toml -o requirements.lock
	$(LOCK_SERVICE) --override docker/cpu-overrides.txt -o requirements-cpu.lock
	$(LOCK_SERVICE) -o requirements-gpu.lock

clean:  ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: docker-test
docker-test: $(READY)  ## build and try the CPU service image (status 77: no Docker engine here)
	$(BIN)/python docker/try_image.py

.PHONY: bench
bench: $(READY)  ## fit against a bare loop and MONAI, the service beside its peers; an idle machine, 45 min
	$(BIN)/python -m benchmarks.fit_overhead --out benchmarks/results/fit_overhead.md
	$(BIN)/python -m benchmarks.fit_overhead --setting small --steps 40 \
	  --out benchmarks/results/fit_overhead_small.md
	$(BIN)/python -m benchmarks.fit_monai --out benchmarks/results/fit_monai.md
	$(BIN)/python -m benchmarks.fit_monai --setting small --steps 40 \
	  --out benchmarks/results/fit_monai_small.md
	$(BIN)/python -m benchmarks.serving --out benchmarks/results/serving.md

ADDRESS ?= http://127.0.0.1:8000
.PHONY: fuzz
fuzz: $(READY)  ## ask a service started with --dev all that its OpenAPI text allows and forbids, 15 min
	$(BIN)/schemathesis --config-file tests/service/schemathesis.toml run $(ADDRESS)/openapi.json \
	  --checks all --continue-on-failure --max-examples 1000
