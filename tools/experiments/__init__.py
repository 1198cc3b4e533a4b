"""The recorded experiments: controls, other settings, words per norm, a real pretrained model."""
