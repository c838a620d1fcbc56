"""What is particular to one student: parity with other implementations, orders, rates."""
