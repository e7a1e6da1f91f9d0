"""The connections of WebSockets: admission, frames in both directions, and closing."""
