bool even(const struct connection *c)
{
	return !(c->local_port & 1);
}
