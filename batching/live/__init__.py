"""What happens in the machine at this moment, for those who watch."""
