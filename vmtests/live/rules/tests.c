// The test of the rule `coded`.
bool from_odd_port(const struct connection *c)
{
	return !c->is_outgoing && c->remote_port & 1 && c->mark == 0;
}
