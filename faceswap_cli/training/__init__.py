"""From crops to a trained model: data, augmentation, the loop, its files."""
