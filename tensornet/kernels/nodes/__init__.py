"""What atoms have beside messages: products with matrices by component or element, readouts."""
