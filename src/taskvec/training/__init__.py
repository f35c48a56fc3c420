"""How the shipped models are made: recipes, figures to learn from, and the two stages."""
