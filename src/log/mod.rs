//! Log lines, written off every thread that has something better to do.
