"""The recorded experiments: controls, sweeps and a real pretrained model."""
