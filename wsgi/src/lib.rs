//! greenwood-wsgi.
