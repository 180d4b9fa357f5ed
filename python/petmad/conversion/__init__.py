"""Checkpoints of upstream (metatrain, architecture ``pet``), read without upstream."""
