"""What is measured before step 0: threads and precision, flips, the time that training takes."""
