"""Classifiers of texts and images: a head on a base model, through the same jobs as chat models."""
