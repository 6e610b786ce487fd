"""What a run takes on AWS, in minutes and euros: pure functions over a dated file of prices, which ask nobody."""
