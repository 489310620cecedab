"""What a model file promises, and how it is opened, run, tiled and scored."""
