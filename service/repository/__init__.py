"""The models that this process serves, as they were found and proved at start."""
