"""memjax in environments other than the clone's own: a wheel's, Colab's, and those of a matrix."""
