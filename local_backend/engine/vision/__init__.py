"""Vision-language chat models: what they read beside text. Their text is trained and served as that of others."""
