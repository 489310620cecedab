"""From images and masks to a checkpoint to a model file."""
