"""Results to statistics, figures and the leaderboard. See README.md."""
