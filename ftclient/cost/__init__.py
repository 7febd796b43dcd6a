"""What a job will take, before anything is spent."""
