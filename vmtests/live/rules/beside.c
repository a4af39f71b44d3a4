bool is_seventh(const struct connection *c)
{
	return c->is_outgoing ? c->remote_port % 10 == 7 : c->local[3] % 10 == 7;
}

bool has_mark(const struct connection *c)
{
	return c->mark == 9;
}
