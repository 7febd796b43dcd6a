"""What people see of jobs: the live view, plain lines, notebooks."""
