"""Studies that are no part of the product. Nothing outside imports them."""
