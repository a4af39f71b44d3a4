/* Messages are not translated: config.h. Alpine has this header in a package of its own. */
