"""Classifiers on any base model: texts and images in, labels out. The last layer is replaced, and as much as wanted."""
