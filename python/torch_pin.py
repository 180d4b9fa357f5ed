"""Build-time metadata: dependencies, with torch pinned to the one built against."""

import importlib.metadata


def dynamic_metadata(field: str, settings: dict[str, object]) -> list[str]:
    """Requirements of the wheel; called by scikit-build-core."""
    if field != "dependencies" or settings:
        raise ValueError(
            f"torch_pin sets `dependencies` alone, without settings, got {field}"
        )
    version = importlib.metadata.version("torch").split("+")[0]
    return [f"torch=={version}", "numpy>=1.26"]
