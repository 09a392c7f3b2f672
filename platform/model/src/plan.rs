//! Every change of an app is planned before it is made.
