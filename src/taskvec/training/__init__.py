"""How the shipped models are made: recipes, prompts to learn from, and the two stages."""
