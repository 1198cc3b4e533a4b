"""Tools that make the course: corpus builder, embedded model, course runner, bar. Users of the course need none."""
