//! What each image of a family sees, from what each of its segments records.
