"""Write a spec into an ONNX model in memory; ``ModelSpec.from_metadata`` reads it back."""

from typing import TYPE_CHECKING

from contract.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    import onnx


def embed_spec(model: "onnx.ModelProto", spec: ModelSpec) -> None:
    """Put ``spec`` into the model's ``metadata_props``, in the place of an earlier one.

    It needs no ``onnx`` itself, so that this room stays free of it.
    """
    entries = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
    entry = entries[0] if entries else model.metadata_props.add()
    entry.key = METADATA_KEY
    entry.value = spec.to_metadata()
