"""Between bytes and arrays: decode, channels, orientation, label PNG, RLE, polygons, overlay."""
