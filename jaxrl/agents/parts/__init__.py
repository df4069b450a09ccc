"""What recipes share: free functions, one idea a file. A recipe calls them; none of them calls a recipe."""
