"""Training of PET models; ``petmad train`` is its command."""
