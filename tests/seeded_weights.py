"""Weights made from their names alone, so that goldens hold numbers and no weights.

Element k of the parameter called NAME is a function of (NAME, k) through SplitMix64 in
pure integer arithmetic: any machine, library and version makes the same bits. Values
are float32 exactly, spread like a default initialisation that was shaken a little, so
that zero gates and unit norms are exercised as well.
"""

import hashlib

import numpy as np


GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIXERS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)


def hash_stream(name: str, n: int) -> np.ndarray:
    """[n] uint64: SplitMix64, seeded with the first bytes of SHA-256 of ``name``."""
    seed = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    with np.errstate(over="ignore"):
        state = seed + GAMMA * np.arange(1, n + 1, dtype=np.uint64)
        for shift, factor in MIXERS:
            state = (state ^ (state >> shift)) * factor
    return state ^ (state >> np.uint64(31))


def uniform(name: str, n: int) -> np.ndarray:
    """[n] float64 in [-1, 1), from the upper 52 bits."""
    return (hash_stream(name, n) >> np.uint64(12)).astype(np.float64) / 2.0**51 - 1.0


def normal_like(name: str, n: int) -> np.ndarray:
    """[n] float64 of mean 0 and deviation 1.01: the sum of four 16-bit uniforms."""
    bits = hash_stream(name, n)
    quarters = [(bits >> np.uint64(16 * k)) & np.uint64(0xFFFF) for k in range(4)]
    return 1.75 * (sum(quarters).astype(np.float64) / 65536.0 - 2.0)


def is_embedding(name: str) -> bool:
    """Whether an upstream parameter is a table of species, charges or spins."""
    return name == "edge_embedder.weight" or any(
        part in name for part in ("node_embedders.", "neighbor_embedder.", "embedding.")
    )


def seeded_weight(variant: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter of a variant, by upstream's key without ``backend.``; float32."""
    key, n = f"{variant}/{name}", int(np.prod(shape))
    shaken = 0.05 * normal_like(f"{key}/shaken", n)
    if "norm" in name:
        values = shaken + (1.0 if name.endswith("weight") else 0.0)
    elif is_embedding(name):
        values = normal_like(key, n)
    elif name.endswith("bias"):
        values = 0.2 * uniform(key, n) + shaken
    else:
        values = uniform(key, n) / np.sqrt(shape[-1]) + shaken
    return values.astype(np.float32).reshape(shape)


def fingerprint(weights: dict[str, np.ndarray]) -> str:
    """SHA-256 of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name], dtype="<f4").tobytes())
    return digest.hexdigest()
