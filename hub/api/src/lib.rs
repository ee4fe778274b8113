//! The types of the hub's REST interface, shared by the hub and its clients.
