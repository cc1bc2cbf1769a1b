def render(found: dict[str, object]) -> str:
    """Placeholder until the page is drawn."""
    return ""
