"""What a report looks like: a document of plain blocks, written as one HTML file, as Markdown or for a terminal."""
