"""Networks, and how one node trains one of them."""
