"""HTML pages that need no server and no network: charts, galleries and a video player inside."""
