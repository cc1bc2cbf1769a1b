"""page"""
def render(found): return ""
