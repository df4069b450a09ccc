"""Free functions that recipes share, one idea per file. Recipes call them; they never call a recipe."""
