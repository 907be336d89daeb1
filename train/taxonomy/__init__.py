"""Trees of diseases: partition into training classes, hierarchy, embedding."""
