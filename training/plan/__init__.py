"""What a training is set to where nobody says otherwise."""
