bool odd_local_port(const struct connection *c)
{
	return c->local_port & 1;
}

// The last bytes of both addresses are the same.
bool twins(const struct connection *c)
{
	return (c->local[3] & 0xff) == (c->remote[3] & 0xff) && !c->is_outgoing;
}
