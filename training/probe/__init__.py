"""Instruments: each measures one thing that is said of skips, in training or on a trained net."""
