"""The V-cycle of a direction network: stencils, restriction to the next grid, and the way back."""
