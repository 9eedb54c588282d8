"""What people may send, who gets which item, and how it is kept."""
