//! Pure functions from resources to policy, with every problem named by its field path.
