"""The way of one image: admit, decode, queue, batch, run, encode."""
