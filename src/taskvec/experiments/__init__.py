"""The paper's tables and figures, and what becomes of its claims."""
