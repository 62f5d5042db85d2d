"""Small things that change: incidents as they grow, what is to be sent, where reading stopped."""
