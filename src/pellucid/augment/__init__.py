"""Augmentation: functions batch -> batch on the device, each image with draws of its own.

All draws are a function of (seed, operation, step) and are made for the step's whole batch, on the
CPU; a piece of it takes its rows. So an image looks the same however the batch was cut up. Only
arithmetic is used whose result for one image does not depend on how many others stand beside it.
"""
